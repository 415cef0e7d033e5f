//! What lies on disk: who may open it, who may read it, and what is left after an erasure.
