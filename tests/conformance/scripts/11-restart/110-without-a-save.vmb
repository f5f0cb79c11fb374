# A daemon that starts with nothing asks no device about what it does not know, and hears no answer about it.
case 110
version 5.3
offer
gpadl relid=1
G> GPADL_TEARDOWN relid=1 gpadl=1
H< teardown relid=1 gpadl=1
restore
silence
= disconnected
= channels 0
H> done
= refused 1
silence
