"""The page of ``iafmsr serve`` in a real browser without a screen: Chromium, driven by selenium.

python tests/browser.py [PICTURE] --weights IAFMNet_x4 --output FILE.png drops a picture on the page, or takes the
example, and saves what is to be seen. Packages: the extras serve and browser.
"""

from __future__ import annotations

import io
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from iafmsr.cli.arguments import Parser, Size, add_weights, size
from iafmsr.errors import UserError, cli_errors

_SWITCHES = (
    '--headless',
    '--no-sandbox',
    '--disable-gpu',
    '--disable-quic',
    '--no-first-run',
    '--disable-sync',
    '--disable-background-networking',
    '--disable-component-update',
    '--hide-scrollbars',
)
_SECONDS = 60


@contextmanager
def chromium(width: int, height: int, downloads: Path) -> Iterator[webdriver.Chrome]:
    """A browser with a window of that size, a folder of downloads and nothing remembered; ends with the context.

    Raises:
        UserError: there is no Chromium or no ChromeDriver on the PATH.
    """
    binary, driver = shutil.which('chromium'), shutil.which('chromedriver')
    if binary is None or driver is None:
        raise UserError('chromium and chromedriver are wanted on the PATH')
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    options.add_experimental_option('prefs', {'download.default_directory': str(downloads.resolve())})
    options.set_capability('goog:loggingPrefs', {'browser': 'ALL'})
    with tempfile.TemporaryDirectory(prefix='iafmsr-browser-') as profile:
        for switch in (*_SWITCHES, f'--user-data-dir={profile}', f'--window-size={width},{height}'):
            options.add_argument(switch)
        browser = webdriver.Chrome(options, webdriver.ChromeService(driver))
        if width < 500:  # no window is narrower: a telephone is emulated
            size = {'width': width, 'height': height, 'deviceScaleFactor': 1, 'mobile': True}
            browser.execute_cdp_cmd('Emulation.setDeviceMetricsOverride', size)
        try:
            yield browser
        finally:
            browser.quit()


class Page:
    """The page of ``iafmsr serve`` as a visitor uses it.

    Args:
        browser: of :func:`chromium`.
        address: of the page.
    """

    def __init__(self, browser: webdriver.Chrome, address: str) -> None:
        self.browser = browser
        browser.get(address)
        self._wait(lambda: self._all('#upload input[type=file]'))
        self._wait(lambda: self.told)  # of the example

    def drop(self, picture: Path) -> None:
        """Hand a picture over, and wait for its result or for a message."""
        before = self.told
        # a message in the way of the next, and the picture before
        for button in self._all('.toast-close, #upload button[aria-label="Clear"]'):
            button.click()
        self._wait(lambda: not self.message)
        self._wait(lambda: self._all('#upload input[type=file]'))
        self._all('#upload input[type=file]')[0].send_keys(str(picture.resolve()))
        self._wait(lambda: (self.told and self.told != before) or self.message)

    @property
    def told(self) -> str:
        """The line of sizes and time."""
        return ''.join(element.text for element in self._all('#told .prose'))

    @property
    def message(self) -> str:
        """The message about a fault, if there is one."""
        return ' '.join(element.text for element in self._all('.toast-body'))

    def image(self, selector: str) -> str:
        """The source of a picture on the page."""
        return self._all(f'{selector} img')[-1].get_attribute('src')

    def style(self, selector: str, name: str) -> str:
        """A computed style."""
        return self._all(selector)[0].value_of_css_property(name)

    def slide(self, name: str, value: float, key: str = Keys.TAB) -> None:
        """Set one of the sliders by its number field, and leave it by a key."""
        field = self._all(f'#{name} input[type=number]')[0]
        field.send_keys(Keys.CONTROL, 'a')
        field.send_keys(f'{value:g}', key)

    def press(self, name: str, key: str) -> None:
        """Move one of the sliders by a key."""
        self._all(f'#{name} input[type=range]')[0].send_keys(key)

    def download(self, folder: Path) -> Path:
        """Press the button; the file that arrives in the browser's folder of downloads."""
        self._all('button#download, #download button')[0].click()
        self._wait(lambda: [path for path in folder.iterdir() if path.suffix == '.png'])
        return next(folder.glob('*.png'))

    def wait_until(self, condition: Callable[[], Any]) -> None:
        """Wait until ``condition()`` is true."""
        self._wait(condition)

    def hosts(self) -> set[str]:
        """All hosts from which the page has loaded anything."""
        return set(
            self.browser.execute_script(
                'return performance.getEntries().map(e => e.name).filter(n => /^(https?|wss?):/.test(n))'
                '.map(n => new URL(n).host)'
            )
        )

    def _all(self, selector: str) -> list[Any]:
        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    def _wait(self, condition: Callable[[], Any]) -> None:
        WebDriverWait(self.browser, _SECONDS).until(lambda _: condition())


def photograph(address: str, picture: Path | None, window: Size) -> bytes:
    """The page at ``address`` with a picture on it, as a PNG file of at most 256 colours.

    Args:
        address: of the page.
        picture: that is dropped on it; None: the example.
        window: its width and height.

    Raises:
        UserError: there is no browser, or the page refuses the picture.
    """
    with tempfile.TemporaryDirectory() as downloads, chromium(*window, Path(downloads)) as browser:
        page = Page(browser, address)
        if picture:
            page.drop(picture)
            if page.message:
                raise UserError(page.message)
        page.wait_until(
            lambda: browser.execute_script(
                'return [...document.images].every(image => image.complete && image.naturalWidth)'
            )
        )
        image = Image.open(io.BytesIO(browser.get_screenshot_as_png())).convert('RGB')
    content = io.BytesIO()
    image.quantize(256, Image.Quantize.MEDIANCUT, kmeans=3, dither=Image.Dither.NONE).save(
        content, 'PNG', optimize=True
    )
    return content.getvalue()


@cli_errors()
def main() -> None:
    from iafmsr.files.whole import write_whole
    from iafmsr.nets.files import find_weights
    from iafmsr.nets.loading import load_net
    from iafmsr.tools.serve.page import serving

    parser = Parser(description=__doc__)
    parser.add_argument('picture', type=Path, nargs='?', help='picture to drop on the page (default: the example)')
    add_weights(parser, 'weights of a network with an information density map')
    parser.add_argument('--output', type=Path, required=True, metavar='FILE.png', help='file for what is to be seen')
    parser.add_argument('--size', type=size, default=Size(1120, 1210), metavar='WxH', help='size of the window')
    args = parser.parse_args()
    with serving(load_net(*find_weights(args.weights)), '127.0.0.1', 0, 200_000) as app:
        write_whole(args.output, photograph(app.local_url, args.picture, args.size))


if __name__ == '__main__':
    main()
