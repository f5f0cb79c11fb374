# The same when the device refuses: then there is nothing to take back.
case 104
version 5.3
offer
G> GPADL_HEADER relid=1 gpadl=1
H< gpadl gpadl=1
G> RELID_RELEASED relid=1
G> UNLOAD
G< silence
H> done(-1)
G< UNLOAD_COMPLETE
