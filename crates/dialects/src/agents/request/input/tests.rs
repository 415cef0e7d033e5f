use super::{IMAGE_BYTES_MAX, check_image};

#[test]
fn an_image_has_a_limit() {
    let url = |n_bytes: usize| format!("data:image/png;base64,{}", "QUJD".repeat(n_bytes / 3));
    assert_eq!(check_image("it", &url(IMAGE_BYTES_MAX / 64)), Ok(()));
    let complaint = check_image("it", &url(IMAGE_BYTES_MAX + 3)).expect_err("too large");
    assert_eq!(complaint.message, "Invalid 'it': an image has at most 20971520 bytes.");
}
