# SPDX-License-Identifier: MIT
# A worker whose passes are another extension's: a design to compare the shipped one with. The shipped Worker
# pays nothing for it: its own pass is reached as before.

cdef class PassWorker(Worker):
    """A Worker until `use` is called; then its passes are what the capsule names."""

    cdef vmb_pass *other
    cdef object capsule

    def use(self, passes):
        """Pass over the page with `passes`, a capsule named VMB_PASS_CAPSULE around a struct vmb_pass.

        Raises UsageError for anything else, and while this worker runs.
        """
        if self.running:
            raise UsageError(f"VP {self.worker.vp}: this worker runs already, its passes cannot change")
        if not PyCapsule_IsValid(passes, VMB_PASS_CAPSULE):
            raise UsageError(f"VP {self.worker.vp}: {passes!r} is no capsule of passes")
        self.other = <vmb_pass *>PyCapsule_GetPointer(passes, VMB_PASS_CAPSULE)
        self.capsule = passes

    cdef unsigned drain(self) except? 0xffffffff:
        cdef unsigned seen
        if self.other == NULL:
            return Worker.drain(self)
        seen = self.other.drain(self.other.own, &self.worker, _dispatch, <void *>self)
        if self.raised is not None:
            error, self.raised = self.raised, None
            raise error
        return seen
