# The same when the device refuses: nothing has to be closed.
case 159
version 5.3
offer
gpadl
G> OPEN_CHANNEL relid=1
H< open relid=1
G> UNLOAD
H< teardown gpadl=1
H> gpadl_torn_down relid=1 gpadl=1
H> done(-1)
G< UNLOAD_COMPLETE
