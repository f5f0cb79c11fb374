# A reset closes everything and is reported once. It does not wait for an open that a device never answers.
case 166 167
version 5.3
offer instance=1
offer instance=2
open relid=1
gpadl relid=2
G> OPEN_CHANNEL relid=2
H< open relid=2
order any
reset
H< close relid=1
H< close relid=2
H< teardown relid=1
H< teardown relid=2
= disconnecting
H> done relid=1
H> done relid=1
B< Disconnected
B< ResetDone callers=1
= disconnected
# The answer that is late: nobody hears of it.
H> opened relid=2 status=0
G< silence
H> gpadl_torn_down relid=2 gpadl=2
H> closed relid=2
= channels 2
= relids 0
