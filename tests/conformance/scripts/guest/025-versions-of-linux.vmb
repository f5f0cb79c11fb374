# Unless something else is named, the client asks what Linux asks: 5.3 down to 2.4.
case 025 026
side guest
A> connect
G> INITIATE_CONTACT version=5.3
G< VERSION_RESPONSE supported=0
G> INITIATE_CONTACT version=5.2
G< VERSION_RESPONSE supported=0
G> INITIATE_CONTACT version=5.1
G< VERSION_RESPONSE supported=0
G> INITIATE_CONTACT version=5.0
G< VERSION_RESPONSE supported=0
G> INITIATE_CONTACT version=4.1
G< VERSION_RESPONSE supported=0
G> INITIATE_CONTACT version=4.0
G< VERSION_RESPONSE supported=0
G> INITIATE_CONTACT version=3.0
G< VERSION_RESPONSE supported=0
G> INITIATE_CONTACT version=2.4
G< VERSION_RESPONSE supported=0
A< error op=connect text="no common"
= disconnected
