# All eleven versions can be asked, each once; below 5.0 on connection 1, from 5.0 on connection 4.
case 002 003 025
side guest
option versions=6.0,5.3,5.2,5.1,5.0,4.1,4.0,3.0,2.4,1.1,0.13
A> connect
G> INITIATE_CONTACT version=6.0 sint=2 features=0 @connection=4 @size=40
G< VERSION_RESPONSE supported=0
G> INITIATE_CONTACT version=5.3 @connection=4
G< VERSION_RESPONSE supported=0
G> INITIATE_CONTACT version=5.2 @connection=4
G< VERSION_RESPONSE supported=0
G> INITIATE_CONTACT version=5.1 @connection=4
G< VERSION_RESPONSE supported=0
G> INITIATE_CONTACT version=5.0 @connection=4
G< VERSION_RESPONSE supported=0
G> INITIATE_CONTACT version=4.1 @connection=1
G< VERSION_RESPONSE supported=0
G> INITIATE_CONTACT version=4.0 @connection=1
G< VERSION_RESPONSE supported=0
G> INITIATE_CONTACT version=3.0 @connection=1
G< VERSION_RESPONSE supported=0
G> INITIATE_CONTACT version=2.4 @connection=1
G< VERSION_RESPONSE supported=0
G> INITIATE_CONTACT version=1.1 @connection=1
G< VERSION_RESPONSE supported=0
G> INITIATE_CONTACT version=0.13 @connection=1
G< VERSION_RESPONSE supported=1 selected=0.13
A< done op=connect
G> REQUEST_OFFERS @connection=1
= connected 0.13
