# Each of the eleven versions is accepted; the last word is the version below 5.0 and the connection from then on.
case 002 003
# The first two can only be had where the legacy interrupt page can be mapped.
option guest-pages
G> INITIATE_CONTACT version=0.13
G< VERSION_RESPONSE supported=1 state=0 selected=0.13 @size=16
= connected 0.13
G> INITIATE_CONTACT version=1.1
G< VERSION_RESPONSE supported=1 state=0 selected=1.1 @size=16
= connected 1.1
G> INITIATE_CONTACT version=2.4
G< VERSION_RESPONSE supported=1 state=0 selected=2.4 @size=16
= connected 2.4
G> INITIATE_CONTACT version=3.0
G< VERSION_RESPONSE supported=1 state=0 selected=3.0 @size=16
= connected 3.0
G> INITIATE_CONTACT version=4.0
G< VERSION_RESPONSE supported=1 state=0 selected=4.0 @size=16
= connected 4.0
G> INITIATE_CONTACT version=4.1
G< VERSION_RESPONSE supported=1 state=0 selected=4.1 @size=16
= connected 4.1
G> INITIATE_CONTACT version=5.0
G< VERSION_RESPONSE supported=1 state=0 selected=1 @size=16
= connected 5.0
G> INITIATE_CONTACT version=5.1
G< VERSION_RESPONSE supported=1 state=0 selected=1 @size=16
= connected 5.1
G> INITIATE_CONTACT version=5.2
G< VERSION_RESPONSE supported=1 state=0 selected=1 @size=16
= connected 5.2
G> INITIATE_CONTACT version=5.3
G< VERSION_RESPONSE supported=1 state=0 selected=1 @size=16
= connected 5.3
G> INITIATE_CONTACT version=6.0
G< VERSION_RESPONSE supported=1 state=0 selected=1 @size=20
= connected 6.0
