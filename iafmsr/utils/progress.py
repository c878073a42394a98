"""A progress bar on a terminal for BasicSR's training loop; log files and redirected output stay as BasicSR's."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from basicsr.utils import MessageLogger
from tqdm import tqdm


@contextmanager
def training_bar(pipeline: ModuleType) -> Iterator[None]:
    """Show the training that runs inside as a bar with ETA, when stderr is a terminal.

    The bar takes the place of the periodic lines of losses on the terminal; other lines appear above it. The log file
    holds everything.

    Args:
        pipeline: ``basicsr.train``; its ``build_model`` and ``MessageLogger`` are replaced while the context lasts.
    """
    if not _has_terminal() or os.environ.get('RANK', '0') != '0':
        yield
        return
    bar = _Bar(pipeline)
    try:
        yield
    finally:
        bar.close()


def _has_terminal() -> bool:
    # a terminal without columns (some containers and CI runners) shows no bar
    return sys.stderr.isatty() and os.get_terminal_size(sys.stderr.fileno()).columns > 0


class _Bar:
    """The bar of one run, fed by the two objects of the loop that see each iteration and each report."""

    def __init__(self, pipeline: ModuleType) -> None:
        self.pipeline = pipeline
        self.stock = {name: getattr(pipeline, name) for name in ('build_model', 'MessageLogger')}
        self.tqdm: tqdm | None = None
        pipeline.build_model, pipeline.MessageLogger = self.build_model, self.message_logger

    def build_model(self, opt: dict[str, Any]) -> Any:
        model = self.stock['build_model'](opt)
        step = model.optimize_parameters

        def optimize_parameters(current_iter: int) -> None:
            step(current_iter)
            self.tqdm.update(current_iter - self.tqdm.n)

        model.optimize_parameters = optimize_parameters
        return model

    def message_logger(self, opt: dict[str, Any], start_iter: int, tb_logger: Any) -> MessageLogger:
        self.tqdm = tqdm(total=int(opt['train']['total_iter']), initial=start_iter, desc=opt['name'], unit='it',
                         dynamic_ncols=True, file=sys.stderr)
        messages = self.stock['MessageLogger'](opt, start_iter, tb_logger)
        handler = _AboveBar()
        for old in [h for h in messages.logger.handlers if type(h) is logging.StreamHandler]:
            handler.setFormatter(old.formatter)
            messages.logger.removeHandler(old)
        messages.logger.addHandler(handler)
        return _BarMessages(messages, self.tqdm, handler)

    def close(self) -> None:
        for name, value in self.stock.items():
            setattr(self.pipeline, name, value)
        if self.tqdm is not None:
            self.tqdm.close()


class _BarMessages:
    """BasicSR's MessageLogger, whose lines go to the log file while their losses go to the bar."""

    def __init__(self, messages: MessageLogger, bar: tqdm, handler: logging.Handler) -> None:
        self.messages, self.bar, self.handler = messages, bar, handler
        self.reset_start_time = messages.reset_start_time

    def __call__(self, log_vars: dict[str, Any]) -> None:
        shown = {key: f'{value:.3g}' for key, value in log_vars.items()
                 if key not in ('epoch', 'iter', 'lrs', 'time', 'data_time')}
        self.bar.set_postfix({'lr': f'{log_vars["lrs"][0]:.2e}', **shown}, refresh=False)
        self.handler.setLevel(logging.WARNING)
        self.messages(log_vars)
        self.handler.setLevel(logging.NOTSET)


class _AboveBar(logging.Handler):
    """Writes log lines above the bar, so that neither tears the other."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stderr)
