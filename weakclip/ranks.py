"""The processes that share the work of a stage: those that torchrun has started, or this one alone.

A stage that was started plainly is alone: `world` and `node` are a group of one, in which all methods return at once and
nothing of torch is imported. Inside `joined`, under torchrun, they are what its environment says.

Work on images is shared out with `Ranks.share`, a training batch with `Ranks.part`. When all that can be shared is done, a
stage calls `leave_to_main`, and its rest is that of a single process.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar

from weakclip.errors import WeakClipError

if TYPE_CHECKING:
    from torch import Tensor
    from torch._C._distributed_c10d import Store
    from torch.distributed import ProcessGroup

T = TypeVar("T")

PATIENCE: Final = timedelta(days=7)
"""How long a rank waits for another one, which may validate or finish a long share. A rank that has died is noticed at once."""


class Ranks:
    """A group of processes, all of which call the same methods in the same order.

    ``rank``: which of them this one is, 0 for the main one. ``count``: how many there are.
    """

    def __init__(self, rank: int = 0, count: int = 1, group: ProcessGroup | None = None) -> None:
        self.rank, self.count, self._group = rank, count, group

    @property
    def main(self) -> bool:
        """Whether this is the process that prints, publishes and writes what there is one of."""
        return self.rank == 0

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """This rank's items: those that follow from its number and the list alone, whatever the others have done."""
        return items[self.rank :: self.count]

    def part(self, batch_size: int, name: str) -> slice:
        """Where this rank's images are in a batch. Raises WeakClipError if it cannot be split evenly; ``name``: of its size."""
        if batch_size % self.count:
            near = max(1, batch_size // self.count) * self.count
            raise WeakClipError(
                f"{name} is {batch_size}, which {self.count} processes cannot share evenly",
                f"start a number of processes that divides it, or set it to a multiple of theirs, such as {near}",
            )
        length = batch_size // self.count
        return slice(self.rank * length, (self.rank + 1) * length)

    def barrier(self) -> None:
        """Return when all ranks have called it."""
        self.gathered(None)

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """Run the block on the main rank, then on the others."""
        if not self.main:
            self.barrier()
        yield
        if self.main:
            self.barrier()

    def gathered(self, value: T) -> list[T]:
        """The values of all ranks, in their order, on every one of them."""
        if self.count == 1:
            return [value]
        from torch import distributed

        values: list[Any] = [None] * self.count
        with _lost_peers_named():
            distributed.all_gather_object(values, value, group=self._group)
        return values

    def stacked(self, tensor: Tensor) -> Tensor:
        """The tensors of all ranks, of one shape: (count, *shape)."""
        if self.count == 1:
            return tensor[None]
        import torch
        from torch import distributed

        tensors = [torch.empty_like(tensor) for _ in range(self.count)]
        with _lost_peers_named():
            distributed.all_gather(tensors, tensor, group=self._group)
        return torch.stack(tensors)

    def average(self, tensor: Tensor) -> Tensor:
        """The mean over the ranks of a tensor, of any shape, the same bits on each of them; alone, the tensor itself."""
        if self.count == 1:
            return tensor
        from torch import distributed

        total = tensor.detach().clone()
        with _lost_peers_named():
            distributed.all_reduce(total, group=self._group)
        return total / self.count


ALONE: Final = Ranks()
_world = _node = ALONE
_nodes = ALONE
_store: Store | None = None


def world() -> Ranks:
    """All processes of the stage."""
    return _world


def node() -> Ranks:
    """Those of them that run on this machine."""
    return _node


def share_of_node(items: Sequence[T]) -> Sequence[T]:
    """The items that this machine takes, for its ranks to share once more."""
    return _nodes.share(items)


def launched() -> bool:
    """Whether torchrun has started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


@contextmanager
def joined() -> Iterator[None]:
    """Meet the other ranks, if torchrun has started any, and part in the end; after an error nobody is waited for."""
    if launched() and int(os.environ["WORLD_SIZE"]) > 1:
        _join()
    yield
    _leave()


def leave_to_main() -> None:
    """Wait for all ranks; then this process is alone if it is the main one, and ends if it is not."""
    main = _world.main
    _leave()
    if not main:
        raise SystemExit(0)


def first_to_fail() -> bool:
    """Whether no other rank has failed before: it is the one to say why."""
    if _store is None:
        return True
    try:
        return _store.add(f"failed {os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", 1) == 1
    except RuntimeError:  # the launcher, which keeps the count, is gone
        return True


def _join() -> None:
    global _world, _node, _nodes, _store
    from torch import cuda, distributed
    from torch.distributed.rendezvous import rendezvous

    backend = "cpu:gloo,cuda:nccl" if cuda.is_available() else "gloo"
    _store, rank, count = next(rendezvous("env://", timeout=PATIENCE))
    distributed.init_process_group(backend, store=_store, rank=rank, world_size=count, timeout=PATIENCE)
    _world = Ranks(rank, count)
    _nodes = Ranks(int(os.environ["GROUP_RANK"]), int(os.environ["GROUP_WORLD_SIZE"]))
    machines = _world.gathered(_nodes.rank)
    for machine in range(_nodes.count):
        members = [member for member, where in enumerate(machines) if where == machine]
        group: Any = distributed.new_group(members, timeout=PATIENCE, backend="gloo")
        if rank in members:
            _node = Ranks(members.index(rank), len(members), group)


def _leave() -> None:
    global _world, _node, _nodes, _store
    if _world.count == 1:
        return
    from torch import distributed

    _world.barrier()
    distributed.destroy_process_group()
    _world = _node = _nodes = ALONE
    _store = None


@contextmanager
def _lost_peers_named() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise WeakClipError(
            f"another process of this run has ended: {str(error).splitlines()[0]}",
            "see its own message, or the machine's if it was killed, such as for want of memory; run the same command again",
        ) from error
