# A socket that was opened stays, however much later it is.
case 194
version 5.3
H> provide_sockets
G> TL_CONNECT_REQUEST endpoint=1 service=9
H< socket_connect endpoint=1
H> done(0)
G< OFFER_CHANNEL relid=1
T+ 4s
open relid=1
T+ 10min
= open 1
