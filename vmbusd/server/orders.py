"""Orders of the administrator to a partition, each until it is done: retarget, rescind, reset, VPs.

What cannot be done is refused before anything is changed. What a host or a worker has to do is waited for, a
while; then the answer says that the order goes on without anybody waiting. Waiting is looking again on the
control path, as for the claims of closing channels. docs/daemon.md says what each order means to whom.
"""

import asyncio
from collections.abc import Callable

from vmbusd.abi.errors import RefusedError, UsageError
from vmbusd.abi.link import Code
from vmbusd.server import inputs, limits
from vmbusd.server.partition import Partition
from vmbusd.server.seats import VpState


async def retarget(partition: Partition, relid: int, vp: int) -> dict[str, object]:
    """Move a channel's interrupts to a VP; done when its host says that no signal goes to the old one.

    Raises UsageError when it cannot be, RefusedError when the host refuses or does not answer.
    """
    orders = partition.bus.orders
    _check(partition, orders.objection_to_retarget(relid, vp))
    before = orders.target(relid)
    partition.feed(None, inputs.Retarget(relid, vp))
    partition.log.info("retarget ordered", relid=relid, vp=vp, before=before)
    await _until(
        partition,
        lambda: not orders.is_moving(relid),
        lambda: f"relid {relid}: its host has not acknowledged",
    )
    now = orders.target(relid)
    if now != vp:
        raise RefusedError(f"relid {relid}: " + ("gone meanwhile" if now is None else f"is on VP {now} now"))
    return {"relid": relid, "vp": vp, "before": before}


async def rescind(partition: Partition, relid: int) -> dict[str, object]:
    """Take a channel, with its subchannels, from the guest. Raises UsageError when there is none."""
    _check(partition, partition.bus.orders.objection_to_rescind(relid))
    partition.feed(None, inputs.Rescind(relid))
    partition.log.info("rescind ordered", relid=relid)
    return {"relid": relid}


async def reset(partition: Partition) -> dict[str, object]:
    """As the reset button of a machine: the guest's link ends, every channel closes, offers stay.

    Raises RefusedError when devices do not let go in time; the reset goes on then.
    """
    _check(partition, "")
    partition.feed(None, inputs.Reset())
    partition.log.info("reset ordered")
    had_guest = partition.control is not None
    if partition.control is not None:
        partition.control.bye(Code.RESET, f"partition {partition.name} was reset")
    await _until(
        partition, lambda: not partition.bus.resetting, lambda: "a device has not let go of its channel"
    )
    return {"guest": had_guest}


async def vp_offline(partition: Partition, vp: int) -> dict[str, object]:
    """Take a VP offline; done when its worker has left or is dead and its bits were handed over.

    Raises UsageError for the last VP that has a worker, RefusedError while its worker does not leave, or no
    other VP has a worker any more.
    """
    vps = partition.vps
    _check(partition, "")
    _check(partition, vps.objection_to_unplug(vp))
    seat = vps.seats[vp]
    if not seat.unplugged:
        vps.unplug(vp)

    def why_not() -> str:
        if vps.live(vp) is None:
            return f"VP {vp}: no other VP has a worker that could take what it has"
        return f"VP {vp}: its worker has not left"

    await _until(partition, lambda: seat.handed_over or not seat.unplugged, why_not)
    if not seat.unplugged:
        raise RefusedError(f"VP {vp}: ordered online meanwhile, or its guest is gone")
    return {"vp": vp, "live": partition.bus.orders.stand_in(vp)}


async def vp_online(partition: Partition, vp: int) -> dict[str, object]:
    """Have the guest give a VP a worker again; done when it has one.

    Raises UsageError without a guest, RefusedError while it does not, or when the guest is gone.
    """
    vps = partition.vps
    _check(partition, vps.objection(vp))
    guest = partition.control
    if guest is None:
        raise UsageError(f"partition {partition.name} has no guest that could give VP {vp} a worker")
    seat = vps.settled(vp)
    if seat.unplugged or seat.state is not VpState.ONLINE:
        vps.plug(vp)
    await _until(
        partition,
        lambda: seat.state is VpState.ONLINE or seat.unplugged or partition.control is not guest,
        lambda: f"VP {vp}: the guest has not given it a worker",
        limits.WORKER_PATIENCE,
    )
    if partition.control is not guest:
        raise RefusedError(f"VP {vp}: its guest is gone")
    if seat.unplugged:
        raise RefusedError(f"VP {vp}: ordered offline meanwhile")
    return {"vp": vp, "incarnation": seat.incarnation}


def _check(partition: Partition, objection: str) -> None:
    if partition.dead is not None:
        raise UsageError(f"partition {partition.name} is dead: {partition.dead}")
    if objection:
        raise UsageError(objection)


async def _until(
    partition: Partition,
    is_done: Callable[[], bool],
    why_not: Callable[[], str],
    patience: float = limits.ORDER_PATIENCE,
) -> None:
    """Raises RefusedError saying `why_not` then when it takes too long, or why the partition ended."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience
    pause = limits.CLAIM_POLL_FIRST
    while not is_done():
        if loop.time() > deadline:
            raise RefusedError(f"{why_not()} within {patience:g} s; it goes on")
        await asyncio.sleep(pause)
        pause = min(2 * pause, limits.CLAIM_POLL_MAX)
        if partition.dead is not None:
            raise RefusedError(f"partition {partition.name} ended: {partition.dead}")
