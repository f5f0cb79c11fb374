# A channel that opens gets no result any more; what the device opened is closed again.
case 159
version 5.3
offer
gpadl
G> OPEN_CHANNEL relid=1
H< open relid=1
order any
G> UNLOAD
H< teardown gpadl=1
H> gpadl_torn_down relid=1 gpadl=1
G< silence
H> done(0)
H< close relid=1
G< silence
H> done
G< UNLOAD_COMPLETE
