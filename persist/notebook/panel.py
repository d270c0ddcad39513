"""The controls of notebooks/explore.ipynb (ipywidgets). A cell trains in a thread of the kernel, so that the kernel is
free for the stop button; the thread changes the widgets."""

import html
import threading
import time

import ipywidgets as widgets

from persist.evidence.figures import describe_data, describe_model, describe_step
from persist.notebook.explore import GRIDS, Explorer
from persist.notebook.live import COSTS_NOTE, Picture, Run, Stopped, cost_table

SIZES = (16, 32, 64, 128, 256, 512, 1024)
RATES = tuple(digit * 10**-power for power in (5, 4, 3, 2, 1) for digit in (1, 2, 5))
POLICIES = {"µ": "constant", "kµ": "kmu"}
TICK = 0.2  # seconds between two movements of the progress bar
TABLE_STYLE = "<style>.costs {overflow-x: auto} .costs td, .costs th {text-align: right; padding: 0 0.7em; line-height: 1.8; vertical-align: bottom}</style>"
NOTE = '<small style="line-height: 1.3; display: block">'


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
        """Train one more cell, as the button does, but wait for its end."""
        run = self._start(self.choose(**choice))
        self.thread.join()
        return run

    def _build(self):
        cell, wide = self.cell, widgets.Layout(width="21rem")
        style = {"description_width": "8.5rem"}
        slider = dict(layout=wide, style=style, continuous_update=False)
        self.controls = {
            "dataset": widgets.Dropdown(
                description="data set", options=list(GRIDS), value=cell.dataset, layout=wide, style=style
            ),
            "m": widgets.SelectionSlider(
                description="minibatch size m", options=sorted({*SIZES, cell.m}), value=cell.m, **slider
            ),
            "K": widgets.IntSlider(description="persistency K", min=1, max=max(10, cell.K), value=cell.K, **slider),
            "lr_policy": widgets.ToggleButtons(
                options=POLICIES,
                value=cell.lr_policy,
                style={"button_width": "5rem"},
                tooltips=["constant", "k times µ at the k-th use of a minibatch"],
            ),
            "lr": widgets.SelectionSlider(description="µ", options=_rates(cell.lr), value=cell.lr, **slider),
            "epochs": widgets.IntSlider(
                description="epochs", min=1, max=max(100, cell.epochs), value=cell.epochs, **slider
            ),
        }
        self.start = widgets.Button(description="Train", icon="play", button_style="primary")
        self.stop = widgets.Button(description="Stop", icon="stop", button_style="warning", disabled=True)
        self.clear = widgets.Button(description="Clear", icon="trash", tooltip="forget the runs")
        self.overlay = widgets.Checkbox(description="recorded runs behind", value=True, indent=False)
        self.bar = widgets.FloatProgress(min=0, max=1, value=0, layout=widgets.Layout(width="14rem"))
        self.status, self.setting, self.curves, self.table = (widgets.HTML() for _ in range(4))
        self.start.on_click(lambda _: self._start(self.cell))
        self.stop.on_click(lambda _: self.stop_asked.set())
        self.clear.on_click(lambda _: self._clear())
        self.overlay.observe(lambda _: self._refresh(), "value")
        for name, control in self.controls.items():
            control.observe(lambda change, name=name: self._changed(name, change.new), "value")
        row = widgets.Layout(flex_flow="row wrap", align_items="center", grid_gap="0.3rem")
        label = widgets.Label(
            "learning rate",
            layout=widgets.Layout(width="8.5rem", display="flex", justify_content="flex-end", margin="2px 8px 2px 2px"),
        )
        policy = widgets.HBox([label, self.controls["lr_policy"]])  # its own description would stand above its buttons
        columns = widgets.Layout(grid_template_columns="repeat(auto-fill, minmax(21rem, 1fr))", grid_gap="0.1rem")
        self.widget = widgets.VBox(
            [
                widgets.GridBox([policy if name == "lr_policy" else control for name, control in self.controls.items()], layout=columns),
                widgets.Box([self.start, self.stop, self.clear, self.bar, self.status, self.overlay], layout=row),
                self.setting, self.curves, self.table,
            ]
        )  # fmt: skip

    def _changed(self, name, value):
        if value == getattr(self.cell, name):
            return
        self.cell = self.choose(**{name: value})
        if name == "dataset":  # another grid: its rate and number of epochs
            self.controls["lr"].options = _rates(self.cell.lr)
            for other in ("lr", "epochs"):
                self.controls[other].value = getattr(self.cell, other)
        if name in ("dataset", "m", "lr_policy"):  # other recorded runs
            # in a thread: until this returns, the next control that is moved has to wait
            threading.Thread(target=self._refresh, daemon=True).start()

    def _start(self, cell) -> Run:
        if self.training:
            raise RuntimeError("a cell is training: stop it first, or wait")
        self.training, run = True, self._new_run(cell)
        self.stop_asked.clear()
        self.start.disabled, self.clear.disabled, self.stop.disabled = True, True, False
        self.bar.value, self.status.value = 0, "getting ready"
        self.thread = threading.Thread(target=self._train, args=(run,), daemon=True)
        self.thread.start()
        return run

    def _train(self, run: Run):
        minibatches, moved = 0, 0.0

        def tick():
            nonlocal minibatches, moved
            if self.stop_asked.is_set():
                raise Stopped
            if minibatches == 0:
                self.status.value = "in the first epoch"
            minibatches += 1
            if time.monotonic() - moved >= TICK:
                self.bar.value = (minibatches - 1) / (
                    run.cell.epochs * run.cell.minibatches * (run.cell.K if run.cell.reuse == "spaced" else 1)
                )
                moved = time.monotonic()

        def grow():
            self._refresh(at_once=len(run.history) == 1)
            self.status.value = f"epoch {len(run.history)} of {run.cell.epochs}"

        try:
            run.train(on_change=grow, on_minibatch=tick, data_root=self.data_root, device=self.device)
            self.bar.value = 1 if run.status == "finished" else self.bar.value
            end = {
                "finished": "finished",
                "stopped": f"stopped; {len(run.history)} of {run.cell.epochs} epochs are kept",
                "diverged": f"its loss is not finite in epoch {len(run.history)}",
            }[run.status]
        except Exception as error:  # shown where one looks; a traceback in a thread is shown nowhere
            end = f"<b>{type(error).__name__}: {html.escape(str(error))}</b>"
        if not run.history:
            self.runs.remove(run)
        self._refresh()
        self.training = False
        # last: whoever sees it ended sees its curves too, and can start the next
        self.start.disabled, self.clear.disabled, self.stop.disabled = False, False, True
        self.status.value = end

    def _clear(self):
        self.runs = [
            run for run in self.runs if run not in self.shown()
        ]  # those of the other data set are not seen, and stay
        self._refresh()

    def _refresh(self, at_once=True):
        """Show the setting, the curves and the costs as they are now."""
        with self.drawing:
            recorded = self.recorded()
            text = f"{describe_data(self.cell)}. {describe_model(self.cell)}. {describe_step(self.cell)}."
            missing = "" if recorded else f"No run of m = {self.cell.m} is recorded."
            behind = recorded if self.overlay.value else []
            self.picture.update(self.shown(), behind, at_once=at_once)
            table = cost_table(self.shown(), behind).to_html(index=False, border=0)
            self.table.value = f'{TABLE_STYLE}<div class="costs">{table}</div>{NOTE}{COSTS_NOTE}</small>'
            self.setting.value = f"{NOTE}{text} {missing}</small>"

    def _warm_up(self):
        import persist.training  # noqa: F401
        from persist import data

        try:
            data.load(self.cell, self.data_root)
        except Exception:
            pass  # the run itself says what is wrong


def _rates(lr: float) -> list:
    return [(f"{rate:g}", rate) for rate in sorted({*(float(f"{r:g}") for r in RATES), lr})]
