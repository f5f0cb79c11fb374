# Unknown bits are dropped in silence.
case 007
G> INITIATE_CONTACT version=6.0 features=0x01|0xF0000000
G< VERSION_RESPONSE supported=1 features=0x01
= features 0x01
