# The SINT word exists from 5.0 on.
case 016
G> INITIATE_CONTACT version=5.0 vp=1 sint=3 @connection=4
G< VERSION_RESPONSE supported=0 @vp=1 @sint=3
= disconnected
G> INITIATE_CONTACT version=5.0 sint=3 @connection=1
G< VERSION_RESPONSE supported=1 @sint=2
