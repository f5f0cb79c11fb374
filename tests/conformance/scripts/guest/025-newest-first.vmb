# The client asks from its newest version downward, once each, and for offers only after one is accepted.
case 025 003
side guest
option versions=5.3,5.2,5.0,4.0,3.0
A> connect
G> INITIATE_CONTACT version=5.3 sint=2 @connection=4
G< VERSION_RESPONSE supported=0
G> INITIATE_CONTACT version=5.2
G< VERSION_RESPONSE supported=0
G> INITIATE_CONTACT version=5.0
G< VERSION_RESPONSE supported=0
G> INITIATE_CONTACT version=4.0
G< VERSION_RESPONSE supported=0
G> INITIATE_CONTACT version=3.0
G< VERSION_RESPONSE supported=1 selected=3.0
A< done op=connect
G> REQUEST_OFFERS
= connected 3.0
