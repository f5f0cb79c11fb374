"""What `vmbusctl fault add --help` says of kinds and steps: plain text, so that the client starts fast.

A test holds it against the tables of the daemon.
"""

from typing import Final

EPILOG: Final = """\
Kinds of the data path, where hosts and guests signal. Each also takes --probability, --every, --after,
--times and --seed; what is marked * must be given:
  drop-doorbell         --relid --vp --host --who           a doorbell is lost
  delay-doorbell        --relid --vp --host --who --delay*  it comes late
  duplicate-doorbell    --relid --vp --host --who           it comes twice
  reorder-doorbell      --relid --vp --host --who --delay*  it comes after its sender's next one
  delay-dispatch        --relid --vp --host --who --delay*  a callback comes late
  delay-read            --relid --host --who --delay*       a read of a ring comes late
  stuck-vp              --vp --delay*                       a VP stands still
  kill                  --relid --vp --host --who --step*   a process ends itself, as by kill -9

Kinds of the daemon. They take the same five, but spurious-bit only --times and --seed:
  drop-message          --relid --message                   a channel message from or to the guest is lost
  delay-message         --relid --message --delay*          it comes late
  drop-device-message   --relid --host --message            the same between daemon and hosts
  delay-device-message  --relid --host --message --delay*
  spurious-bit          --relid --vp --host --rate          bits of interrupt pages that nobody set
  kill-daemon           --step*                             the daemon ends itself, as by kill -9

--delay is 1 to 1000 us, for stuck-vp 60000000, for messages 10000000.

Steps of kill:
  signal.between-bit-and-post           signal.between-post-and-reload
  signal-host.between-bit-and-post      drain.between-taken-and-clear
  dispatch.between-claim-and-callback   dispatch.before-let-go
  drain.before-done                     sleep.between-announce-and-look
  ring.between-copy-and-publish         ring.between-keep-and-publish
  ring.between-publish-and-signal       ring.between-copy-and-commit
  ring.between-keep-and-commit          host-sleep.between-announce-and-look
  host-take.between-take-and-dispatch

Steps of kill-daemon:
  journal.between-append-and-effect     effects.between-two
  snapshot.between-write-and-rename     snapshot.between-renames
  recover.before-claims                 recover.between-bits-and-journal
  retire.between-word-and-targets       retire.between-targets-and-sweep
  sweep.between-set-and-clear           resume.before-table
  resume.between-table-and-links

Of the doorbells of hosts one in ten, by chance, is lost:
  vmbusctl fault add demo drop-doorbell --who hosts --probability 0.1 --seed 7
The worker of VP 1 dies once, when it is at the end of a pass for the sixth time:
  vmbusctl fault add demo kill --step drain.before-done --vp 1 --after 5
"""
