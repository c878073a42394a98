"""What can be downloaded: DF2K and four benchmarks, from the addresses that their authors and those of EDSR give.

The authors publish no checksums; the MD5 sums are those of torchSR (https://github.com/Coloquinte/torchSR).
"""

from dataclasses import dataclass
from pathlib import PurePosixPath

__all__ = ['BENCHMARKS', 'DF2K', 'Source']


@dataclass(frozen=True)
class Source:
    """An archive of pictures.

    Args:
        name: Folder of the data set.
        url: Address of the archive, a zip or a tar file.
        pictures: Folder of the pictures in the archive, or the last parts of its path; others are passed over.
        count: Number of the pictures.
        folder: Folder of the pictures on the disk, below that of the data set; as in the archive by default.
        md5: Of the archive, as torchSR publishes it.
    """

    name: str
    url: str
    pictures: str
    count: int
    folder: str | None = None
    md5: str | None = None

    @property
    def archive(self) -> str:
        """File name of the archive."""
        return PurePosixPath(self.url).name


DF2K = (
    Source(
        'DIV2K',
        'https://data.vision.ee.ethz.ch/cvl/DIV2K/DIV2K_train_HR.zip',
        'DIV2K_train_HR',
        800,
        md5='bdc2d9338d4e574fe81bf7d158758658',
    ),
    Source(
        'Flickr2K',
        'https://cv.snu.ac.kr/research/EDSR/Flickr2K.tar',
        'Flickr2K_HR',
        2650,
        md5='5d3f39443d5e9489bff8963f8f26cb03',
    ),
)
# HR and standard LR of four sets in one archive; Manga109's authors give it out on request alone
BENCHMARKS = tuple(
    Source(
        'benchmarks',
        'https://cv.snu.ac.kr/research/EDSR/benchmark.tar',
        f'{name}/{part}',
        count,
        f'{"BSD100" if name == "B100" else name}/{part}',
        '4ace41d33c2384b97e6b320cd0afd6ba',
    )
    for name, count in {'Set5': 5, 'Set14': 14, 'B100': 100, 'Urban100': 100}.items()
    for part in ('HR', 'LR_bicubic/X2', 'LR_bicubic/X3', 'LR_bicubic/X4')
)
