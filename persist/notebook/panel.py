"""The controls of notebooks/explore.ipynb (ipywidgets). A run trains in a thread of the kernel, so that the kernel is
free for the stop button; the thread changes the widgets."""

import html
import importlib
import itertools
import threading

import ipywidgets as widgets

from persist.evidence.curves import describe_data, describe_model, describe_step
from persist.notebook.explore import GRIDS, Explorer
from persist.notebook.live import cost_table, sparing, to_html
from persist.notebook.progress import Stopped, time_left

SIZES = (16, 32, 64, 128, 256, 512, 1024)
RATES = tuple(float(f"{digit}e-{power}") for power in (5, 4, 3, 2, 1) for digit in (1, 2, 5))
POLICIES = {"µ at every use": "constant", "kµ at the k-th use": "kmu"}
TABLE = (
    "<style>.costs {{overflow-x: auto}} .costs td, .costs th {{text-align: right; padding: 0 0.7em; line-height: 1.8;"
    ' vertical-align: bottom}}</style><div class="costs">{}</div>'
)


class Panel(Explorer):
    """An Explorer with controls. `widget` is what is displayed."""

    def __init__(self, **options):
        super().__init__(**options)
        self.thread, self.stop_asked = None, threading.Event()
        self.drawing = threading.Lock()  # a control that is moved draws too, while the thread does
        self._build()
        self.draw = sparing(lambda *runs: setattr(self.curves, "value", to_html(*runs)))
        self._refresh()
        # importing torch takes seconds, which pass while the controls are read
        threading.Thread(target=importlib.import_module, args=("persist.training",), daemon=True).start()

    def train(self, **choice):
        """Train one more run, as the button does, but wait for its end."""
        self._start(**choice)
        self.thread.join()

    def _build(self):
        cell, grids = self.cell, [self.grid(dataset)[0] for dataset in GRIDS]
        rates = sorted({*RATES, cell.lr, *(cell.lr for cells in grids for cell in cells)})
        self.controls = {
            "dataset": widgets.Dropdown(description="data set", options=list(GRIDS)),
            "m": widgets.SelectionSlider(description="minibatch size m", options=sorted({*SIZES, cell.m})),
            "K": widgets.IntSlider(description="persistency K", min=1, max=max(10, cell.K)),
            "lr_policy": widgets.Dropdown(description="learning rate", options=POLICIES),
            "lr": widgets.SelectionSlider(description="µ", options=[(f"{rate:g}", rate) for rate in rates]),
            "epochs": widgets.IntSlider(description="epochs", min=1, max=max(200, cell.epochs)),
        }
        for name, control in self.controls.items():
            control.value, control.continuous_update = getattr(cell, name), False
            control.layout.width, control.style.description_width = "21rem", "8.5rem"
            control.observe(lambda change, name=name: self._changed(name, change.new), "value")
        self.start = widgets.Button(description="Train", icon="play", button_style="primary")
        self.stop = widgets.Button(description="Stop", icon="stop", button_style="warning", disabled=True)
        self.clear = widgets.Button(description="Clear", icon="trash", tooltip="forget the runs")
        self.overlay = widgets.Checkbox(description="recorded runs behind", value=True, indent=False)
        self.bar = widgets.FloatProgress(min=0, max=1, layout=widgets.Layout(width="14rem"))
        self.status, self.setting, self.curves, self.table = (widgets.HTML() for _ in range(4))
        self.start.on_click(lambda _: self._start())
        self.stop.on_click(lambda _: self.stop_asked.set())
        self.clear.on_click(lambda _: self._clear())
        self.overlay.observe(lambda _: self._refresh(), "value")
        buttons = [self.start, self.stop, self.clear, self.bar, self.status, self.overlay]
        wrap = dict(flex_flow="row wrap", align_items="center", grid_gap="0.1rem 0.3rem")
        rows = [widgets.Box([*row], layout=wrap) for row in (self.controls.values(), buttons)]
        self.widget = widgets.VBox([*rows, self.setting, self.curves, self.table])

    def _changed(self, name, value):
        if value == getattr(self.cell, name):
            return
        self.choose(**{name: value})
        for other in ("lr", "epochs"):  # with another data set, those of its grid
            self.controls[other].value = getattr(self.cell, other)
        # in a thread: until this returns, the next control that is moved has to wait
        threading.Thread(target=self._refresh, daemon=True).start()

    def _start(self, **choice):
        if self.start.disabled:
            raise RuntimeError("a run is training: stop it first, or wait")
        self.choose(**choice)
        self.start.disabled, self.clear.disabled, self.stop.disabled = True, True, False
        self.stop_asked.clear()
        self.bar.value, self.status.value = 0, f"epoch 0 of {self.cell.epochs}"
        self.thread = threading.Thread(target=self._train, args=(self.cell,), daemon=True)
        self.thread.start()

    def _train(self, cell):
        drawn, planned = itertools.count(1), cell.epochs * cell.minibatches

        def tick():
            if self.stop_asked.is_set():
                raise Stopped
            self.bar.value = round(next(drawn) / planned, 2)  # a widget tells the browser only what has changed

        def grow(entry):
            self._refresh(at_once=entry["epoch"] == 1)
            self.status.value = f"epoch {entry['epoch']} of {cell.epochs}, {time_left(cell, entry)} left"

        try:
            run = self.watch(cell, on_epoch=grow, on_minibatch=tick)
            stopped = f"stopped; {len(run.history)} of {cell.epochs} epochs are kept"
            ends = {"unfinished": stopped, "diverged": f"its loss is not finite in epoch {len(run.history)}"}
            end = ends.get(run.status, "finished")
        except Exception as error:  # shown where one looks; a traceback in a thread is shown nowhere
            end = f"<b>{type(error).__name__}: {html.escape(str(error))}</b>"
        self._refresh()
        # last: whoever sees it ended sees its curves too, and can start the next
        self.start.disabled, self.clear.disabled, self.stop.disabled = False, False, True
        self.status.value = end

    def _clear(self):
        for number in self.shown():  # those of the other data set are not seen, and stay
            del self.runs[number]
        self._refresh()

    def _refresh(self, at_once=True):
        """Show the setting, the curves and the costs as they are now."""
        with self.drawing:
            recorded, shown = self.recorded(), self.shown()
            words = [describe_data(self.cell), describe_model(self.cell), describe_step(self.cell)]
            words += [] if recorded else [f"No run of m = {self.cell.m} is recorded yet"]
            self.setting.value = f'<small style="line-height: 1.3; display: block">{". ".join(words)}.</small>'
            behind = recorded if self.overlay.value else []
            self.draw(shown, behind, at_once=at_once)
            self.table.value = TABLE.format(cost_table(shown, behind).to_html(index=False, border=0))
