"""A process that attaches, does to the shared words what it is told, and waits for its death.

Commands are lines on standard input, answers lines on standard output: `claim FLAG` takes the claim of a flag
for our VP and notes it in the journal, as a worker inside a callback has; `close` closes the link; `offer`
offers a channel. The end of standard input ends the process in order.
"""

import sys
from uuid import UUID

from vmbusd.abi import device_link, layout, link
from vmbusd.abi.attach import attach
from vmbusd.abi.link import Object, Role
from vmbusd.abi.native import Words


def main() -> None:
    directory, partition, role, vp = sys.argv[1:]
    attached = attach(Role[role], partition, runtime_dir=directory, vp=int(vp))
    print("ready", flush=True)
    for line in sys.stdin:
        command, *numbers = line.split()
        if command == "claim":
            flag = int(numbers[0])
            taken = Words(
                attached[Object.VPWORK], int(vp) * layout.VPWORK_SIZE + layout.VPWORK_TAKEN_OFFSET, 32
            )
            taken.or_(flag // 64, 1 << flag % 64)
            Words(attached[Object.GUEST], flag * layout.BLOCK_SIZE, 1).or_(0, layout.CLAIM_RUN | int(vp))
        elif command == "close":
            attached.sock.close()
        elif command == "offer":
            offer = device_link.Offer(int(numbers[0]), UUID(int=1), UUID(int=int(numbers[0])))
            attached.send(device_link.encode(offer))
        elif command == "detach":
            attached.send(link.encode(link.Detached(int(vp))))
        print("done", flush=True)


if __name__ == "__main__":
    main()
