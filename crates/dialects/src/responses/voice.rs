pub const REVISION: &str = "responses/1";
