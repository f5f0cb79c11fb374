# The ring's memory is not given back while the channel is open, even if the device lets go of it.
case 098
version 5.3
offer
open relid=1
G> GPADL_TEARDOWN relid=1 gpadl=1
H< teardown relid=1 gpadl=1
H> done
G< silence
G> CLOSE_CHANNEL relid=1
H< close relid=1
G< silence
H> done
G< GPADL_TORNDOWN gpadl=1
