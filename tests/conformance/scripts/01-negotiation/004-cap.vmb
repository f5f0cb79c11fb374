# A cap: newer versions are unsupported, older ones as ever.
case 004
option max-version=4.0
G> INITIATE_CONTACT version=5.3
G< VERSION_RESPONSE supported=0 @size=16
= disconnected
G> INITIATE_CONTACT version=4.0
G< VERSION_RESPONSE supported=1 selected=4.0
= connected 4.0
