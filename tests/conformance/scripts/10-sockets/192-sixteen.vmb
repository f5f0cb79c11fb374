# Sixteen connects are outstanding: the seventeenth message waits, whatever it is.
case 192
version 5.3
offer
H> provide_sockets
G> TL_CONNECT_REQUEST endpoint=1 service=9
H< socket_connect endpoint=1
G> TL_CONNECT_REQUEST endpoint=2 service=9
H< socket_connect endpoint=2
G> TL_CONNECT_REQUEST endpoint=3 service=9
H< socket_connect endpoint=3
G> TL_CONNECT_REQUEST endpoint=4 service=9
H< socket_connect endpoint=4
G> TL_CONNECT_REQUEST endpoint=5 service=9
H< socket_connect endpoint=5
G> TL_CONNECT_REQUEST endpoint=6 service=9
H< socket_connect endpoint=6
G> TL_CONNECT_REQUEST endpoint=7 service=9
H< socket_connect endpoint=7
G> TL_CONNECT_REQUEST endpoint=8 service=9
H< socket_connect endpoint=8
G> TL_CONNECT_REQUEST endpoint=9 service=9
H< socket_connect endpoint=9
G> TL_CONNECT_REQUEST endpoint=10 service=9
H< socket_connect endpoint=10
G> TL_CONNECT_REQUEST endpoint=11 service=9
H< socket_connect endpoint=11
G> TL_CONNECT_REQUEST endpoint=12 service=9
H< socket_connect endpoint=12
G> TL_CONNECT_REQUEST endpoint=13 service=9
H< socket_connect endpoint=13
G> TL_CONNECT_REQUEST endpoint=14 service=9
H< socket_connect endpoint=14
G> TL_CONNECT_REQUEST endpoint=15 service=9
H< socket_connect endpoint=15
G> TL_CONNECT_REQUEST endpoint=16 service=9
H< socket_connect endpoint=16
= accepting 0
G> GPADL_HEADER relid=1 gpadl=1
H< silence
H> done(-1)
G< TL_CONNECT_RESULT endpoint=1
H< gpadl relid=1 gpadl=1
= accepting 1
