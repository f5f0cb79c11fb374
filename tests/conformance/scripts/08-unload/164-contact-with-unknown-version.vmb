# The old connection ends even if the new version cannot be had.
case 164
version 5.3
offer
open relid=1
G> INITIATE_CONTACT version=0x00090009
H< close relid=1
H< teardown gpadl=1
H> done
H> done
G< VERSION_RESPONSE supported=0
= disconnected
