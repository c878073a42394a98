"""A progress bar on a terminal; log files and redirected output have the lines of BasicSR's log."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import AbstractContextManager
from typing import Any

from tqdm import tqdm

from iafmsr.bridge.basicsr_api import MessageLogger, get_root_logger


class Reports(AbstractContextManager['Reports']):
    """How far a run is: a bar with ETA when stderr is a terminal, and the periodic lines of losses in the log.

    On a terminal the bar shows the losses instead of the lines, and other lines appear above it.

    Args:
        opt: of the run.
        iteration: where it starts.
        board: of TensorBoard, which gets the losses.
    """

    def __init__(self, opt: dict[str, Any], iteration: int, board: Any) -> None:
        self.board = board
        self.messages = MessageLogger(opt, iteration, board)
        self.messages.max_iters = int(self.messages.max_iters) + 1  # it takes one off: the last time left was negative
        shown = opt['rank'] == 0 and _has_terminal()
        self.bar = tqdm(
            total=int(opt['train']['total_iter']),
            initial=iteration,
            desc=opt['name'],
            unit='it',
            dynamic_ncols=True,
            file=sys.stderr,
            disable=not shown,
        )
        self.handler = _above_bar() if shown else None

    def update(self, iteration: int) -> None:
        """An iteration is finished."""
        if iteration == 1:
            self.messages.reset_start_time()  # the first one is slow
        self.bar.update(iteration - self.bar.n)

    def losses(self, values: dict[str, Any]) -> None:
        """A report: ``epoch``, ``iter``, ``lrs``, ``time``, ``data_time``, and the losses by their names."""
        if self.board is not None:
            self.board.add_scalar('learning_rate', values['lrs'][0], values['iter'])
        if self.handler is None:
            self.messages(values)
            return
        shown = {
            key: f'{value:.3g}'
            for key, value in values.items()
            if key not in ('epoch', 'iter', 'lrs', 'time', 'data_time')
        }
        self.bar.set_postfix({'lr': f'{values["lrs"][0]:.2e}', **shown}, refresh=False)
        self.handler.setLevel(logging.WARNING)
        self.messages(values)
        self.handler.setLevel(logging.NOTSET)

    def __exit__(self, *error: object) -> None:
        self.bar.close()


def _has_terminal() -> bool:
    # a terminal without columns (some containers and CI runners) shows no bar
    return sys.stderr.isatty() and os.get_terminal_size(sys.stderr.fileno()).columns > 0


def _above_bar() -> logging.Handler:
    """Puts a handler that respects the bar in place of the logger's that writes to stderr."""
    logger, handler = get_root_logger(), _AboveBar()
    for old in [old for old in logger.handlers if type(old) is logging.StreamHandler]:
        handler.setFormatter(old.formatter)
        logger.removeHandler(old)
    logger.addHandler(handler)
    return handler


class _AboveBar(logging.Handler):
    """Writes log lines above the bar, so that neither tears the other."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stderr)
