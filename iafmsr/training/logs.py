"""The log of a run and its TensorBoard; the run goes on where neither can be written."""

from __future__ import annotations

import functools
import logging
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from iafmsr.bridge.basicsr_api import (
    get_env_info,
    get_root_logger,
    get_time_str,
    init_tb_logger,
    init_wandb_logger,
    options,
)

Options = dict[str, Any]


def start_log(opt: Options, kind: str) -> logging.Logger:
    """BasicSR's logger, to stderr and to ``{kind}_NAME_TIME.log`` in the run's folder, with versions and options first.

    A line that cannot be written is lost, which is said once.
    """
    file = str(Path(opt['path']['log'], f'{kind}_{opt["name"]}_{get_time_str()}.log'))
    logger = get_root_logger(log_level=logging.INFO, log_file=file)
    for handler in logger.handlers:
        handler.handleError = functools.partial(_say_once, handler, [])
    logger.info(get_env_info())
    logger.info(options.dict2str(_named(opt)))
    return logger


def _named(opt: Options) -> Options:
    """With keys that are strings, which BasicSR's text of options needs: those of a curriculum are iterations."""
    return {str(key): _named(value) if isinstance(value, dict) else value for key, value in opt.items()}


def _say_once(handler: logging.Handler, said: list[str], record: logging.LogRecord) -> None:
    error = sys.exc_info()[1]
    if not isinstance(error, OSError):
        logging.Handler.handleError(handler, record)
    elif not said:
        said.append(str(error))
        name = getattr(handler, 'baseFilename', 'stderr')
        print(f'iafmsr: warning: {name}: {error.strerror}; lines of the log are lost', file=sys.stderr, flush=True)


class Board:
    """A TensorBoard writer that takes no run down: what cannot be written is said once, then nothing more is."""

    def __init__(self, writer: Any) -> None:
        self.writer = writer
        threading.excepthook = _quiet  # its thread dies of the error that the next call raises here

    def add_scalar(self, *args: Any) -> None:
        self._try(lambda writer: writer.add_scalar(*args))

    def add_image(self, *args: Any) -> None:
        self._try(lambda writer: writer.add_image(*args))

    def close(self) -> None:
        self._try(lambda writer: writer.close())

    def _try(self, call: Callable[[Any], None]) -> None:
        if self.writer is None:
            return
        try:
            call(self.writer)
        except OSError as error:
            self.writer = None
            get_root_logger().error(f'TensorBoard: {error.strerror}; the run goes on without it.')


def _quiet(args: threading.ExceptHookArgs) -> None:
    if not isinstance(args.exc_value, OSError):
        threading.__excepthook__(args)


def open_board(opt: Options) -> Board | None:
    """Of a run that wants one; wandb, which takes what TensorBoard is given, starts before it."""
    logger = opt['logger']
    if 'debug' in opt['name'] or opt['rank'] != 0:
        return None
    if (logger.get('wandb') or {}).get('project'):
        init_wandb_logger(opt)
    return Board(init_tb_logger(log_dir=str(board_folder(opt)))) if logger.get('use_tb_logger') else None


def board_folder(opt: Options) -> Path:
    return Path(opt['root_path'], 'tb_logger', opt['name'])
