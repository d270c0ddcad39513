"""The controls of notebooks/explore.ipynb (ipywidgets). A run trains in a thread of the kernel, so that the kernel is
free for the stop button; the thread changes the widgets."""

import contextlib
import html
import threading
import time

import ipywidgets as widgets

from persist.evidence.curves import describe_data, describe_model, describe_step
from persist.notebook.explore import GRIDS, Explorer
from persist.notebook.live import Picture, Run, Stopped, cost_table
from persist.notebook.progress import duration

SIZES = (16, 32, 64, 128, 256, 512, 1024)
RATES = tuple(digit * 10**-power for power in (5, 4, 3, 2, 1) for digit in (1, 2, 5))
POLICIES = {"µ at every use": "constant", "kµ at the k-th use": "kmu"}
TICK = 0.2  # seconds between two movements of the progress bar
TABLE = (
    "<style>.costs {{overflow-x: auto}} .costs td, .costs th {{text-align: right; padding: 0 0.7em; line-height: 1.8;"
    ' vertical-align: bottom}}</style><div class="costs">{}</div>'
)


class Panel(Explorer):
    """An Explorer with controls. `widget` is what is displayed."""

    def __init__(self, **options):
        super().__init__(**options)
        self.thread, self.training, self.stop_asked = None, False, threading.Event()
        self.drawing = threading.Lock()  # a control that is moved draws too, while the thread does
        self._build()
        self.picture = Picture(lambda text: setattr(self.curves, "value", text))
        self._refresh()
        # importing torch and reading the data take seconds, which pass while the controls are read
        threading.Thread(target=self._warm_up, daemon=True).start()

    def train(self, **choice) -> Run:
        """Train one more run, as the button does, but wait for its end."""
        run = self._start(self.choose(**choice))
        self.thread.join()
        return run

    def _build(self):
        cell = self.cell
        common = dict(layout=widgets.Layout(width="21rem"), style={"description_width": "8.5rem"})
        slider = common | dict(continuous_update=False)
        listed = dict(options=list(GRIDS), value=cell.dataset, **common)
        sizes = dict(options=sorted({*SIZES, cell.m}), value=cell.m, **slider)
        uses = dict(min=1, max=max(10, cell.K), value=cell.K, **slider)
        policies = dict(options=POLICIES, value=cell.lr_policy, **common)
        rates = dict(options=_rates(cell.lr), value=cell.lr, **slider)
        epochs = dict(min=1, max=max(100, cell.epochs), value=cell.epochs, **slider)
        self.controls = {
            "dataset": widgets.Dropdown(description="data set", **listed),
            "m": widgets.SelectionSlider(description="minibatch size m", **sizes),
            "K": widgets.IntSlider(description="persistency K", **uses),
            "lr_policy": widgets.Dropdown(description="learning rate", **policies),
            "lr": widgets.SelectionSlider(description="µ", **rates),
            "epochs": widgets.IntSlider(description="epochs", **epochs),
        }
        self.start = widgets.Button(description="Train", icon="play", button_style="primary")
        self.stop = widgets.Button(description="Stop", icon="stop", button_style="warning", disabled=True)
        self.clear = widgets.Button(description="Clear", icon="trash", tooltip="forget the runs")
        self.overlay = widgets.Checkbox(description="recorded runs behind", value=True, indent=False)
        self.bar = widgets.FloatProgress(min=0, max=1, layout=widgets.Layout(width="14rem"))
        self.status, self.setting, self.curves, self.table = (widgets.HTML() for _ in range(4))
        self.start.on_click(lambda _: self._start(self.cell))
        self.stop.on_click(lambda _: self.stop_asked.set())
        self.clear.on_click(lambda _: self._clear())
        self.overlay.observe(lambda _: self._refresh(), "value")
        for name, control in self.controls.items():
            control.observe(lambda change, name=name: self._changed(name, change.new), "value")
        columns = widgets.Layout(grid_template_columns="repeat(auto-fill, minmax(21rem, 1fr))", grid_gap="0.1rem")
        controls = widgets.GridBox([*self.controls.values()], layout=columns)
        row = widgets.Layout(flex_flow="row wrap", align_items="center", grid_gap="0.3rem")
        buttons = [self.start, self.stop, self.clear, self.bar, self.status, self.overlay]
        rows = [controls, widgets.Box(buttons, layout=row), self.setting, self.curves, self.table]
        self.widget = widgets.VBox(rows)

    def _changed(self, name, value):
        if value == getattr(self.cell, name):
            return
        self.cell = self.choose(**{name: value})
        if name == "dataset":  # another grid: its rate and number of epochs
            self.controls["lr"].options = _rates(self.cell.lr)
            for other in ("lr", "epochs"):
                self.controls[other].value = getattr(self.cell, other)
        # in a thread: until this returns, the next control that is moved has to wait
        threading.Thread(target=self._refresh, daemon=True).start()

    def _start(self, cell) -> Run:
        if self.training:
            raise RuntimeError("a run is training: stop it first, or wait")
        self.training, run = True, self.new_run(cell)
        self.stop_asked.clear()
        self.start.disabled, self.clear.disabled, self.stop.disabled = True, True, False
        self.bar.value, self.status.value = 0, "getting ready"
        self.thread = threading.Thread(target=self._train, args=(run,), daemon=True)
        self.thread.start()
        return run

    def _train(self, run: Run):
        drawn, moved, planned = 0, 0.0, run.cell.epochs * run.cell.minibatches

        def tick():
            nonlocal drawn, moved
            if self.stop_asked.is_set():
                raise Stopped
            if drawn == 0:
                self.status.value = "in the first epoch"
            if time.monotonic() - moved >= TICK:
                self.bar.value, moved = drawn / planned, time.monotonic()
            drawn += 1

        def grow():
            self._refresh(at_once=len(run.history) == 1)
            last, epochs = run.history[-1], run.cell.epochs
            left = duration(last["wall_seconds"] / last["epoch"] * (epochs - last["epoch"]))
            self.status.value = f"epoch {last['epoch']} of {epochs}, {left} left"

        try:
            run.train(on_change=grow, on_minibatch=tick, data_root=self.data_root, device=self.device)
        except Exception as error:  # shown where one looks; a traceback in a thread is shown nowhere
            end = f"<b>{type(error).__name__}: {html.escape(str(error))}</b>"
        else:
            done = len(run.history)
            ends = {"stopped": f"stopped; {done} of {run.cell.epochs} epochs are kept", "finished": "finished"}
            end = ends.get(run.status, f"its loss is not finite in epoch {done}")
            self.bar.value = 1 if run.status == "finished" else self.bar.value
        if not run.history:
            self.runs.remove(run)
        self._refresh()
        self.training = False
        # last: whoever sees it ended sees its curves too, and can start the next
        self.start.disabled, self.clear.disabled, self.stop.disabled = False, False, True
        self.status.value = end

    def _clear(self):
        self.runs = [run for run in self.runs if run not in self.shown()]  # the other data set's are not seen, and stay
        self._refresh()

    def _refresh(self, at_once=True):
        """Show the setting, the curves and the costs as they are now."""
        with self.drawing:
            recorded = self.recorded()
            words = [describe_data(self.cell), describe_model(self.cell), describe_step(self.cell)]
            words += [] if recorded else [f"No run of m = {self.cell.m} is recorded yet"]
            self.setting.value = f'<small style="line-height: 1.3; display: block">{". ".join(words)}.</small>'
            behind = recorded if self.overlay.value else []
            self.picture.update(self.shown(), behind, at_once=at_once)
            self.table.value = TABLE.format(cost_table(self.shown(), behind).to_html(index=False, border=0))

    def _warm_up(self):
        from persist import data, training  # noqa: F401

        with contextlib.suppress(Exception):  # the run itself says what is wrong
            data.load(self.cell, self.data_root)


def _rates(lr: float) -> list:
    return [(f"{rate:g}", rate) for rate in sorted({*(float(f"{r:g}") for r in RATES), lr})]
