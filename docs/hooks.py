"""What mkdocs calls: pages of the site whose files lie outside of docs/, and links to what is outside.

On a repository's host a page links to `../weights/README.md`. The site shows that file as the page `weights.md`. A link
to any other file outside of docs/ becomes the bare name of that file. The page `api.md` is made from docstrings.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
OUTSIDE = {
    'CHANGELOG.md': 'changelog.md',
    'CONTRIBUTING.md': 'contributing.md',
    'README.md': 'index.md',
    'datasets/README.md': 'data.md',
    'weights/README.md': 'weights.md',
}
FILE_OF = {page: file for file, page in OUTSIDE.items() if file != 'README.md'}
LINK = re.compile(r'(?<!!)\[([^\]]+)\]\((?!https?:|#)([^)#\s]*)(#[^)]*)?\)')


def on_files(files: Files, config: Any) -> Files:
    for page, file in FILE_OF.items():
        files.append(File.generated(config, page, content=(ROOT / file).read_text(encoding='utf-8')))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    file = FILE_OF.get(page.file.src_uri, f'docs/{page.file.src_uri}')

    def link(found: re.Match[str]) -> str:
        text, target, anchor = found[1], found[2], found[3] or ''
        path = posixpath.normpath(posixpath.join(posixpath.dirname(file), target))
        place = OUTSIDE.get(path, path.removeprefix('docs/') if path.startswith('docs/') else None)
        if place:
            return f'[{text}]({place}{anchor})'
        if not (ROOT / path).exists():
            return found[0]  # broken: mkdocs says so
        return text

    return LINK.sub(link, markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Names of functions and classes in docstrings as code, without the roles of Sphinx."""
    return re.sub(r':(?:func|class|mod|data|meth|attr):<code>~?(?:[\w.]+\.)?([\w()]+)</code>', r'<code>\1</code>', html)
