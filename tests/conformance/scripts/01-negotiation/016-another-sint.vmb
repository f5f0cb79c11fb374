# On the multi-client connection another SINT is told "unsupported"; on the ordinary one the word is not looked at.
case 016
option vps=4
G> INITIATE_CONTACT version=5.3 vp=3 sint=3 @connection=4
G< VERSION_RESPONSE supported=0 @vp=3 @sint=3
= disconnected
G> INITIATE_CONTACT version=5.3 vp=3 sint=3 @connection=1
G< VERSION_RESPONSE supported=1 @vp=3 @sint=2
= connected 5.3
