# 0.13 and 1.1 name the legacy interrupt page; later versions say other things with that word.
case 013
option guest-pages
G> INITIATE_CONTACT version=0.13 interrupt_page=0x10000
B< ModifyPages interrupt_page=0x10000 parent_to_child=0 child_to_parent=0
G< VERSION_RESPONSE supported=1 selected=0.13
G> INITIATE_CONTACT version=1.1 interrupt_page=0x20000
B< ModifyPages interrupt_page=0x20000
G< VERSION_RESPONSE supported=1
G> INITIATE_CONTACT version=2.4 interrupt_page=0x30000
B< ResetPages
G< VERSION_RESPONSE supported=1
= connected 2.4
