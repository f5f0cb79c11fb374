# A host that accepts only what is too old for this guest: disconnected, and no offers requested.
case 029
side guest
option versions=5.3,5.2,5.1 minimum-version=5.2
A> connect
G> INITIATE_CONTACT version=5.3
G< VERSION_RESPONSE supported=0
G> INITIATE_CONTACT version=5.2
G< VERSION_RESPONSE supported=0
G> INITIATE_CONTACT version=5.1
G< VERSION_RESPONSE supported=1
A< error op=connect text="speaks 5.1, at least 5.2"
G> silence
= disconnected
