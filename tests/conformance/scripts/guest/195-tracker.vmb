# Only the offer with the service, the endpoint and the flag of a socket, and not for accepting, is the answer.
case 190 195
side guest
version 5.3
A> connect_socket endpoint=1 service=9
G> TL_CONNECT_REQUEST endpoint=1 service=9
G< OFFER_CHANNEL relid=1 interface=8 instance=1 flags=0x2011
A< offered relid=1
G< OFFER_CHANNEL relid=2 interface=9 instance=2 flags=0x2011
A< offered relid=2
G< OFFER_CHANNEL relid=3 interface=9 instance=1 flags=0x11
A< offered relid=3
G< RESCIND_OFFER relid=3
A> release relid=3
G> RELID_RELEASED relid=3
G< OFFER_CHANNEL relid=4 interface=9 instance=1 flags=0x2011 user=0000000001
A< offered relid=4
G< RESCIND_OFFER relid=4
A> release relid=4
G> RELID_RELEASED relid=4
G< OFFER_CHANNEL relid=5 interface=9 instance=1 flags=0x2011
A< offered relid=5
A< done op=connect_socket relid=5
G< TL_CONNECT_RESULT endpoint=1 service=9 status=REFUSED
= refused 1
= channels 3
