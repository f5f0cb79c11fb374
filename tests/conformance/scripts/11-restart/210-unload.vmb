# An unload that waits for devices is answered when they are done.
case 210
version 5.3
offer
open relid=1
G> UNLOAD
H< close relid=1
H< teardown relid=1
save
restore
= disconnecting
G< silence
H> close
H> teardown
G< UNLOAD_COMPLETE
= disconnected
= gpadls 0
