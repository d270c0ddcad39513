"""CUDA graphs: the K iterations on a minibatch, and the evaluation, captured once and replayed, so that the CPU launches
one thing per minibatch instead of some fifty kernels per iteration.

What is captured is a function without arguments on tensors that stay where they are. On the CPU that same function runs
as it is, so everything here but the capture itself is tested there.
"""

import contextlib

import torch

WARM_UP = 3  # runs before a capture: cuDNN and cuBLAS choose and allocate, which must not happen within it


class GraphedIterations:
    """Runs `iterate` (see persist.training.iterate) on the minibatches of a resident epoch, each by one replay.

    iterate: iterate(minibatches) -> (sum of the losses at the first use, examples), for consecutive reuse.
    resident: persist.data.Resident, which gathers a minibatch by index on the device.
    sizes: the sizes of its minibatches, m and that of the last, partial one: each gets a graph of its own.
    """

    def __init__(self, iterate, resident, sizes):
        self.total = torch.zeros((), dtype=torch.float64, device=resident.device)
        self.indices = {n: torch.arange(n, device=resident.device) for n in sizes}
        self.iterate, self.resident = iterate, resident
        self.run = {n: capture(lambda n=n: self._minibatch(n), resident.device) for n in sizes}

    def _minibatch(self, n):
        loss, _ = self.iterate([self.resident.gather(self.indices[n])])
        self.total += loss

    def __call__(self, batches):
        """(sum of the losses at the first use, examples) of one epoch, as iterate(batches); the sum is overwritten by the next."""
        self.total.zero_()
        count = 0
        for index in batches.indices:
            self.indices[len(index)].copy_(index)
            self.run[len(index)]()
            count += len(index)
        return self.total, count


def capture(function, device):
    """A callable that does what function() does, and returns what it returns, by replaying a CUDA graph; elsewhere than
    on CUDA, function itself. Runs the function WARM_UP times first (see `restored`)."""
    if device.type != "cuda":
        for _ in range(WARM_UP):
            function()
        return function
    # One stream for both: autograd, cuBLAS and cuDNN keep what they set up per stream
    stream, graph = torch.cuda.Stream(device), torch.cuda.CUDAGraph()
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.device(device):
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                function()
        torch.cuda.synchronize()
        with torch.cuda.graph(graph, stream=stream):
            outputs = function()

    def replay():
        graph.replay()
        return outputs  # in the graph's own memory, overwritten by the next replay

    return replay


@contextlib.contextmanager
def restored(model, optimizer):
    """Weights and momentum are bitwise afterwards what they were, in the memory where they were: what a warm-up and a
    capture may change. Momentum buffers that were not there yet are zeros, from which SGD goes on as from none."""
    for group in optimizer.param_groups:
        for p in group["params"] if group["momentum"] else ():
            if optimizer.state[p].get("momentum_buffer") is None:
                optimizer.state[p]["momentum_buffer"] = torch.zeros_like(p)
    kept = [*model.parameters(), *(state["momentum_buffer"] for state in optimizer.state.values())]
    before = [tensor.detach().clone() for tensor in kept]
    yield
    with torch.no_grad():
        for tensor, value in zip(kept, before):
            tensor.copy_(value)
