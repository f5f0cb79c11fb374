# The guest is done before the device has answered: no message, and an acceptance is taken back.
case 104
version 5.3
offer
G> GPADL_HEADER relid=1 gpadl=1
H< gpadl gpadl=1
G> UNLOAD
G< silence
H> done(0)
H< teardown gpadl=1
G< silence
H> done
G< UNLOAD_COMPLETE
