# A device cannot have closed what is open, nor opened what is closed: it is refused, and nothing changes.
case 203
version 5.3
offer instance=1
offer instance=2
open relid=1
save
restore
H> closed relid=1
= refused 1
= channel 1 open
H> opened relid=2 status=0
= refused 2
= channel 2 closed
silence
