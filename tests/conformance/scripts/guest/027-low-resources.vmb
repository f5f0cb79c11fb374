# A host that cannot now is not asked for an older version.
case 027
side guest
option versions=5.3,4.1
A> connect
G> INITIATE_CONTACT version=5.3
G< VERSION_RESPONSE supported=1 state=LOW_RESOURCES
A< error op=connect text="state 1"
= disconnected
