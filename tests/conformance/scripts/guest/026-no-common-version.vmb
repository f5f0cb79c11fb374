# Nothing in common: an error after the oldest, no request for offers, and another try is allowed.
case 026
side guest
option versions=5.3,4.1
A> connect
G> INITIATE_CONTACT version=5.3
G< VERSION_RESPONSE supported=0
G> INITIATE_CONTACT version=4.1
G< VERSION_RESPONSE supported=0
A< error op=connect text="no common"
= disconnected
A> connect
G> INITIATE_CONTACT version=5.3
