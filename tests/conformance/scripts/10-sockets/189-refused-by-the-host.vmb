# A host that provides sockets may refuse one.
case 189
version 5.3
H> provide_sockets enable=1
H< sockets_provided status=OK
G> TL_CONNECT_REQUEST endpoint=0x11 service=0x22
H< socket_connect endpoint_id=0x11 service_id=0x22 silo_id=0
G< silence
H> done(-1)
G< TL_CONNECT_RESULT endpoint=0x11 service=0x22 status=REFUSED
