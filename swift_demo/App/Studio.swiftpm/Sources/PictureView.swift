import KDCoreML
import KDNumerics
import KDStudio
import SwiftUI
import UIKit

/// A picture in memory.
struct PictureView: View {
    /// What is shown.
    let picture: Picture

    var body: some View {
        if let image = picture.cgImage {
            Image(image, scale: 1, label: Text("Picture"))
                .resizable()
                .scaledToFit()
        }
    }
}

/// A picture of the gallery.
struct StoredPictureView: View {
    /// What is shown.
    let item: GalleryItem

    @Environment(Studio.self) private var studio

    var body: some View {
        if let image = UIImage(contentsOfFile: studio.gallery.picture(of: item).path) {
            Image(uiImage: image)
                .resizable()
                .scaledToFit()
                .accessibilityLabel(item.spokenDescription)
        } else {
            Image(systemName: "photo")
                .foregroundStyle(.secondary)
                .accessibilityLabel("A picture that cannot be read")
        }
    }
}
