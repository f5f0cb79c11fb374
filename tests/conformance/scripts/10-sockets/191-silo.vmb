# From 5.2 on the long form carries a silo; the short one means none.
case 191
version 5.2
H> provide_sockets
G> TL_CONNECT_REQUEST endpoint=1 service=2 silo=3 @size=56
H< socket_connect endpoint=1 service=2 silo_id=3
H> done(-1)
G< TL_CONNECT_RESULT endpoint=1
G> TL_CONNECT_REQUEST endpoint=4 service=2 @size=40
H< socket_connect endpoint=4 service=2 silo_id=0
H> done(-1)
G< TL_CONNECT_RESULT endpoint=4
