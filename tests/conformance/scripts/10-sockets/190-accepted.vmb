# Success is an offer: interface the service, instance the endpoint, flagged as a socket of a pipe.
case 190
version 5.3
H> provide_sockets
G> TL_CONNECT_REQUEST endpoint=0x11 service=0x22
H< socket_connect endpoint=0x11 service=0x22
H> done(0)
G< OFFER_CHANNEL relid=1 interface=0x22 instance=0x11 flags=0x2011
open relid=1
= open 1
