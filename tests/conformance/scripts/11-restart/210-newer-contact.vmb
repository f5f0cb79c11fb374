# So is the contact that ended the connection before.
case 210
version 5.3
offer
open relid=1
G> INITIATE_CONTACT version=4.1
H< close relid=1
H< teardown relid=1
save
restore
= disconnecting
H> close
H> teardown
G< VERSION_RESPONSE supported=1 selected=4.1
= connected 4.1
