# Five seconds to open a socket, then it is withdrawn.
case 194
version 5.3
H> provide_sockets
G> TL_CONNECT_REQUEST endpoint=1 service=9
H< socket_connect endpoint=1
H> done(0)
G< OFFER_CHANNEL relid=1 interface=9 instance=1
T+ 4999ms
G< silence
T+ 1ms
G< RESCIND_OFFER relid=1
H< withdraw relid=1
H> done
G> RELID_RELEASED relid=1
= channels 0
