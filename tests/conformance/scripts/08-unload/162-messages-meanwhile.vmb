# While the unload is under way, no message counts, and there is one answer in all.
case 162
version 5.3
offer
open relid=1
G> UNLOAD
H< close relid=1
H< teardown gpadl=1
G> UNLOAD
G> CLOSE_CHANNEL relid=1
G> GPADL_HEADER relid=1 gpadl=7
G> REQUEST_OFFERS
= refused 4
= disconnecting
H> done
H> done
G< UNLOAD_COMPLETE
= disconnected
