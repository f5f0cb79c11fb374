# A version that nobody knows is answered "unsupported", and nothing else happens.
case 001
offer
G> INITIATE_CONTACT version=0xFFFFFFFF
G< VERSION_RESPONSE supported=0 state=0 selected=0 @size=16 @vp=0 @sint=2
= disconnected
G> INITIATE_CONTACT version=5.4
G< VERSION_RESPONSE supported=0 state=0 selected=0 @size=16
= disconnected
H< silence
G> REQUEST_OFFERS
= disconnected
