# The guest's pages are let go before the unload is answered.
case 157
option guest-pages
G> INITIATE_CONTACT version=5.3 page1=0x10000 page2=0x20000
B< ModifyPages parent_to_child=0x10000 child_to_parent=0x20000
G< VERSION_RESPONSE supported=1
G> UNLOAD
B< ResetPages
G< UNLOAD_COMPLETE
