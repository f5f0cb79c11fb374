# Pages that the backend was asked for are asked for again, and then the contact is answered.
case 209
option guest-pages manual-pages
G> INITIATE_CONTACT version=5.3 page1=0x10000 page2=0x20000
B< ModifyPages parent_to_child=0x10000 child_to_parent=0x20000
save
restore
B< ModifyPages parent_to_child=0x10000 child_to_parent=0x20000
= connecting
G< silence
pages ok
G< VERSION_RESPONSE supported=1 state=0
= connected 5.3
