# The host that was asked goes: each connect is answered, once.
case 193
version 5.3
H1> provide_sockets
G> TL_CONNECT_REQUEST endpoint=1 service=9
H1< socket_connect endpoint=1
G> TL_CONNECT_REQUEST endpoint=2 service=9
H1< socket_connect endpoint=2
host 1 dead
G< TL_CONNECT_RESULT endpoint=1 service=9 status=REFUSED
G< TL_CONNECT_RESULT endpoint=2 service=9 status=REFUSED
