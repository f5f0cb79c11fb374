# The guest's time to open a socket goes on.
case 194
version 5.3
H> provide_sockets enable=1
G> TL_CONNECT endpoint=7 service=8
H< socket_connect endpoint=7 service=8
save
restore
H> socket_answer request=1 status=0 offer_id=5
G< OFFER_CHANNEL relid=1 interface=8 instance=7
T+ 4s
save
restore
G< silence
T+ 1s
G< RESCIND_OFFER relid=1
H< withdraw id=5
