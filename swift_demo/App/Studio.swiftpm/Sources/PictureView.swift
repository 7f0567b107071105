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

/// A picture of the gallery, small: many whole ones would take the memory that models need.
struct ThumbnailView: View {
    /// What is shown.
    let item: GalleryItem

    @Environment(Studio.self) private var studio
    @State private var thumbnail: UIImage?

    var body: some View {
        Group {
            if let thumbnail {
                Image(uiImage: thumbnail)
                    .resizable()
                    .scaledToFit()
            } else {
                Image(systemName: "photo")
                    .foregroundStyle(.secondary)
                    .frame(maxWidth: .infinity, minHeight: 110)
            }
        }
        .accessibilityElement()
        .accessibilityLabel(item.spokenDescription)
        .task(id: item.id) { await load() }
    }

    private func load() async {
        let image = UIImage(contentsOfFile: studio.gallery.picture(of: item).path)
        guard let size = image?.size, size.width > 0 else { return }
        let width = 360.0
        thumbnail = await image?.byPreparingThumbnail(
            ofSize: CGSize(width: width, height: width * size.height / size.width))
    }
}
