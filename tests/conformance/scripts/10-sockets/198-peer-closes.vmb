# The end of a socket is a rescind.
case 198
version 5.3
H> provide_sockets
G> TL_CONNECT_REQUEST endpoint=1 service=9
H< socket_connect
H> done(0)
G< OFFER_CHANNEL relid=1
open relid=1
revoke relid=1
G< RESCIND_OFFER relid=1
G> CLOSE_CHANNEL relid=1
G> RELID_RELEASED relid=1
= channels 0
