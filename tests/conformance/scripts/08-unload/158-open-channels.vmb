# Devices close first; the guest hears of nothing but the end.
case 158
version 5.3
offer instance=1
offer instance=2
open relid=1
open relid=2
order any
G> UNLOAD
H< close relid=1
H< close relid=2
H< teardown relid=1 gpadl=1
H< teardown relid=2 gpadl=2
H> done relid=1
H> done relid=1
G< silence
H> done relid=2
G< silence
H> done relid=2
G< UNLOAD_COMPLETE
